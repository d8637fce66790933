"""`python -m serving.cli`: the same as the command `loraplane`."""

from serving.cli.main import main

if __name__ == "__main__":
    main()
