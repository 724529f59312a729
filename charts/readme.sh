#!/usr/bin/env bash
# Writes charts/clickstream-operator/README.md: its values come out of the comments `# --` in values.yaml.
#
#   charts/readme.sh            writes the file
#   charts/readme.sh --check    exits 1 when the file is not what would be written
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/clickstream-operator"

field() { sed -n "s/^$1: *//p" Chart.yaml | tr -d '"'; }

# One row per documented key. A comment may go on over several lines; a key's own value is its default, and the keys
# below a documented one belong to its default, so they are no rows unless they are documented themselves.
values() {
  awk '
    function trim(text) { sub(/^[ \t]+/, "", text); sub(/[ \t]+$/, "", text); return text }
    function cell(text) { gsub(/\|/, "\\|", text); return text }
    # puts out the row that waits, with the default that was gathered
    function flush_row() {
      if (key == "") return
      if (value == "") value = nested == "" ? "`\"\"`" : nested
      else value = "`" value "`"
      printf "| `%s` | %s | %s |\n", key, cell(value), cell(text)
      key = ""; value = ""; nested = ""
    }
    /^[ ]*# -- / { flush_row(); comment = $0; sub(/^[ ]*# -- /, "", comment); inside = 1; next }
    inside && /^[ ]*# / { line = $0; sub(/^[ ]*# /, "", line); comment = comment " " line; next }
    /^[ ]*#/ || /^[ ]*$/ { next }
    {
      depth = match($0, /[^ ]/) - 1
      line = trim($0)
      if (key != "" && depth > key_depth) {   # part of the default of the key above
        nested = "see `values.yaml`"
        next
      }
      flush_row()
      if (line !~ /^[A-Za-z][A-Za-z0-9]*:/) { print "values.yaml:" NR ": not understood: " line > "/dev/stderr"; bad = 1; exit }
      name = line; sub(/:.*/, "", name)
      level = depth / 2
      path[level] = name
      full = path[0]; for (i = 1; i <= level; i++) full = full "." path[i]
      rest = line; sub(/^[^:]*:/, "", rest); rest = trim(rest)
      if (inside) { key = full; key_depth = depth; value = rest; text = comment; inside = 0 }
      else if (rest != "") { print "values.yaml:" NR ": " full " has no `# --` comment" > "/dev/stderr"; bad = 1; exit }
    }
    END { if (bad) exit 1; flush_row() }
  ' values.yaml
}

page() {
  cat <<MD
<!-- Written by charts/readme.sh from values.yaml and README.head.md; change those. -->
# clickstream-operator

$(field description)

Chart $(field version), operator $(field appVersion), Kubernetes $(field kubeVersion).

$(cat README.head.md)

## Values

| key | default | effect |
|---|---|---|
$(values)
MD
}

new=$(mktemp)
trap 'rm -f "$new"' EXIT
page >"$new"
if [ "${1:-}" = --check ]; then
  diff -u README.md "$new" || { echo "README.md is not what values.yaml says: run charts/readme.sh" >&2; exit 1; }
else
  cp "$new" README.md
fi
