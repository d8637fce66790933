#!/bin/sh
# copy-plugin.sh TARGET   puts the plugin's folder onto a volume that is shared with a stock vLLM
# image. The engine's container finds it by PYTHONPATH=TARGET. LORAPLANE_PLUGIN_SOURCE is where it is
# copied from, if not the image's own folder.
set -eu
umask 022

target=${1:?usage: copy-plugin.sh TARGET}
source=${LORAPLANE_PLUGIN_SOURCE:-/opt/loraplane}
list=$target/.loraplane-plugin

# The volume outlives a container: what an earlier run or version has put there goes first, or Python
# would find two loraplanes. Only what the list names; the volume may hold other things, too.
if [ -f "$list" ]; then
  while IFS= read -r name; do
    rm -rf "${target:?}/${name:?}"
  done <"$list"
fi
# Before the first file, so that a run that is killed leaves nothing that the next one does not know.
ls "$source" >"$list"
cp -R "$source/." "$target/"
echo "copied $(ls -d "$source"/loraplane-*.dist-info | sed 's,.*/,,; s,\.dist-info$,,') to $target"
