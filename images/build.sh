#!/usr/bin/env bash
# Builds the images with whatever builder this machine has; `make images` calls it.
#   REGISTRY  goes before the name: registry.example.com/team
#   TAG       the version in pyproject.toml, if unset
#   IMAGES    some of: controller evaluator engine plugin (all, if unset)
#   BUILDER   docker, podman, buildah or kaniko: this one and no other
#   PUSH      1: push each image once it is built (kaniko can do nothing else)
#   SOURCE    URL of the sources, for the label; the origin's, if that is an https URL without a user
#   BUILD_ARGS  more build arguments: "VARIANT=cpu VLLM_IMAGE=vllm/vllm-openai-cpu"
# Exit code 3: no builder, nothing was built.
set -euo pipefail
cd "$(dirname "$0")/.."

kaniko=${KANIKO_EXECUTOR:-/kaniko/executor}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || true)
origin=$(git remote get-url origin 2>/dev/null || true)
[[ $origin == https://* && $origin != *@* ]] || origin=
prefix=${REGISTRY:+${REGISTRY%/}/}
tag=${TAG:-$version}

# A command that is installed is not yet a builder: docker alone cannot build without its daemon.
works() {
  case $1 in
    docker) command -v docker >/dev/null && docker info >/dev/null 2>&1 ;;
    kaniko) [[ -x $kaniko ]] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

choose() {
  local candidate
  for candidate in ${BUILDER:-docker podman buildah kaniko}; do
    if works "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  {
    echo "No image was built: there is no working builder here (looked for: ${BUILDER:-docker podman buildah kaniko})."
    if command -v docker >/dev/null && ! works docker; then
      echo "docker is installed, but its daemon does not answer: start it, or set DOCKER_HOST."
    fi
    echo "Fix: install podman or buildah (neither needs a daemon), or run this where an image builder is."
  } >&2
  exit 3
}

build() {
  local builder=$1 image=$2 reference="${prefix}loraplane-$2:$tag" argument
  local arguments=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision"
    --build-arg "SOURCE=${SOURCE:-$origin}")
  for argument in ${BUILD_ARGS:-}; do
    # Each Dockerfile gets only what it knows; builders warn, or stop, at the rest.
    if grep -q "^ARG ${argument%%=*}\b" "images/$image.Dockerfile"; then
      arguments+=(--build-arg "$argument")
    fi
  done
  echo "building $reference with $builder"
  case $builder in
    docker | podman) "$builder" build "${arguments[@]}" --file "images/$image.Dockerfile" --tag "$reference" . ;;
    buildah) buildah build "${arguments[@]}" --file "images/$image.Dockerfile" --tag "$reference" . ;;
    kaniko)
      "$kaniko" "${arguments[@]}" --context "dir://$PWD" --dockerfile "images/$image.Dockerfile" --destination "$reference"
      return
      ;;
  esac
  if [[ ${PUSH:-} == 1 ]]; then
    "$builder" push "$reference"
  fi
}

builder=$(choose)
if [[ $builder == kaniko && ${PUSH:-} != 1 ]]; then
  echo "kaniko pushes what it builds: set REGISTRY and PUSH=1." >&2
  exit 3
fi
for image in ${IMAGES:-controller evaluator engine plugin}; do
  build "$builder" "$image"
done
