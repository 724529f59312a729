#!/usr/bin/env bash
# Puts the plugin into an archive for this machine's platform, and writes krew's manifest for all archives of the folder.
#
#   cli/krew/package.sh FOLDER BASE_URL
#
# BASE_URL is where the archives will be downloaded from. Run it on each platform with the same FOLDER, or copy the others'
# archives into it first. BINARY names a finished binary; otherwise one is built. To try the result without a download:
#
#   kubectl krew install --manifest FOLDER/clickstream.yaml --archive FOLDER/kubectl-clickstream-vVERSION-OS-ARCH.tar.gz
set -euo pipefail
folder=${1:?usage: package.sh FOLDER BASE_URL} base_url=${2:?usage: package.sh FOLDER BASE_URL}
mkdir -p "$folder" && folder=$(cd "$folder" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
os=$(uname -s | tr '[:upper:]' '[:lower:]')
arch=$(uname -m | sed -e 's/^x86_64$/amd64/' -e 's/^aarch64$/arm64/')

if [ -z "${BINARY:-}" ]; then
  cargo build --locked --profile image --package kubectl-clickstream
  BINARY=${CARGO_TARGET_DIR:-target}/image/kubectl-clickstream
fi
content=$(mktemp -d)
trap 'rm -rf "$content"' EXIT
install -m 755 "$BINARY" "$content/kubectl-clickstream"
install -m 644 LICENSE "$content/LICENSE"
# the same content is the same archive, whoever packs it and whenever; only GNU's tar can do that
tar=$(command -v gtar || command -v tar)
"$tar" --create --directory "$content" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 kubectl-clickstream LICENSE |
  gzip --no-name >"$folder/kubectl-clickstream-v$version-$os-$arch.tar.gz"

checksum() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1; }
block=''
flush() { if [ -n "$block" ]; then printf '%s' "$block"; fi; block=''; }
while IFS= read -r line; do
  case $line in
    '#'*) continue ;;
    '  - selector:'*) flush; dropped='' ;;
  esac
  line=${line//BASE_URL/$base_url} line=${line//VERSION/$version}
  if [[ $line == *'uri: '* ]]; then archive=$folder/${line##*/}; [ -f "$archive" ] || dropped=yes; fi
  if [[ $line == *CHECKSUM && -z ${dropped:-} ]]; then line=${line/CHECKSUM/$(checksum "$archive")}; fi
  block+=$line$'\n'
  if [ -n "${dropped:-}" ]; then block=''; fi
done <cli/krew/clickstream.yaml >"$folder/clickstream.yaml"
printf '%s' "$block" >>"$folder/clickstream.yaml"
echo "$folder/clickstream.yaml"
