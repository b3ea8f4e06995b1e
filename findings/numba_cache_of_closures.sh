#!/usr/bin/env bash
# numba 0.68.1, Python 3.11: a function compiled with cache=True that refers to another compiled function
# through its closure is never found in the cache of a later process. Each process compiles it anew and adds a
# file to the cache folder, which grows without end. With the helper at the level of the module the second
# process reads the first one's file.
#
#   closure: hits 0 0 0, files 2 3 4
#   module: hits 0 1 1, files 2 2 2
#
# (One of the files is the index.) numba's cache key includes the pickled closure, and the pickle of a compiled
# function holds an identifier that is drawn anew in every process.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numba==0.68.1 numpy==2.4.6
cat > "$folder/closure.py" <<'PYTHON'
from numba import njit


def make():
    @njit
    def helper(x):
        return x + 1

    @njit(cache=True)
    def outer(x):
        return helper(x)

    return outer


outer = make()
outer(1)
print(sum(outer.stats.cache_hits.values()))
PYTHON
cat > "$folder/module.py" <<'PYTHON'
from numba import njit


@njit
def helper(x):
    return x + 1


@njit(cache=True)
def outer(x):
    return helper(x)


outer(1)
print(sum(outer.stats.cache_hits.values()))
PYTHON
for kind in closure module; do
    hits="" files=""
    for _ in 1 2 3; do
        hits+=" $(NUMBA_CACHE_DIR="$folder/cache_$kind" "$folder/venv/bin/python" "$folder/$kind.py")"
        files+=" $(find "$folder/cache_$kind" -type f | wc -l)"
    done
    echo "$kind: hits$hits, files$files"
done | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
closure: hits 0 0 0, files 2 3 4
module: hits 0 1 1, files 2 2 2
EXPECTED
