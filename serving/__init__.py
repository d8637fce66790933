"""Make the world serve adapters: the controller decides, the engine plugin converges."""
