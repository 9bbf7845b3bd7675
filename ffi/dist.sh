#!/bin/sh
# Makes target/dist/bantam-VERSION-TARGET.tar.gz: the shared and the static library, the header, files for pkg-config and CMake,
# the examples, the guide and the licences. For Linux; needs the Rust toolchain and a C compiler.
#
#   ffi/dist.sh                        builds the release and packs it
#   ffi/dist.sh --from DIR --to DIR    packs the libbantam.a of the first folder into the second
#
# CARGO_BUILD_TARGET and CC are for other machines than this one.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
from=
to=$root/target/dist
while [ $# -gt 0 ]; do
  case $1 in
    --from) from=$2 ;;
    --to) to=$2 ;;
    *) echo "usage: $0 [--from DIR] [--to DIR]" >&2; exit 2 ;;
  esac
  shift 2
done

cd "$root"
target=${CARGO_BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
soversion=0
# What the standard library needs of the system, as rustc --print native-static-libs says.
static_libs="-lgcc_s -lutil -lrt -lpthread -lm -ldl"

if [ -z "$from" ]; then
  cargo build --locked --release -p bantam-ffi
  from=${CARGO_TARGET_DIR:-target}/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}release
fi

name=bantam-$version-$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
place=$work/$name
doc=$place/share/doc/bantam
mkdir -p "$place/include" "$place/lib/pkgconfig" "$place/lib/cmake/bantam" "$doc/examples" "$to"

cp ffi/include/bantam.h "$place/include/"
cp "$from/libbantam.a" "$place/lib/"
"${STRIP:-strip}" --strip-debug "$place/lib/libbantam.a"
# rustc's own shared library exports without versions; linked again, each symbol has one.
"${CC:-cc}" -shared -o "$place/lib/libbantam.so.$version" \
  -Wl,-soname,libbantam.so.$soversion -Wl,--version-script=ffi/dist/bantam.map \
  -Wl,--gc-sections -Wl,-z,relro,-z,now -Wl,--no-undefined -Wl,--strip-debug \
  -Wl,--whole-archive "$place/lib/libbantam.a" -Wl,--no-whole-archive -Wl,--as-needed $static_libs
ln -s "libbantam.so.$version" "$place/lib/libbantam.so.$soversion"
ln -s "libbantam.so.$soversion" "$place/lib/libbantam.so"

fill() {
  sed -e "s/@VERSION@/$version/g" -e "s/@SOVERSION@/$soversion/g" -e "s/@STATIC_LIBS@/$static_libs/g" "ffi/dist/$1.in" > "$2/$1"
}
fill bantam.pc "$place/lib/pkgconfig"
fill bantam-config.cmake "$place/lib/cmake/bantam"
fill bantam-config-version.cmake "$place/lib/cmake/bantam"

cp LICENSE docs/c-api.md "$doc/"
cp ffi/examples/* "$doc/examples/"

# The texts under which the crates are that are part of the library.
cargo tree --locked -p bantam-ffi --edges normal,no-proc-macro --no-dedupe --target "$target" --prefix none --format '{p}|{l}' |
  sed -n '/^bantam-/!s/^\([^ ]*\) v\([^ |]*\)[^|]*|\(.*\)$/\1-\2 \3/p' | sort -u > "$work/crates"
cargo metadata --locked --format-version 1 --filter-platform "$target" |
  tr ',' '\n' | sed -n 's/^"manifest_path":"\(.*\)\/Cargo\.toml".*/\1/p' > "$work/folders"
while read -r crate license; do
  folder=$(grep "/$crate\$" "$work/folders")
  printf '\n==== %s (%s)\n' "$crate" "$license"
  find "$folder" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) | sort |
    while read -r file; do
      printf '\n-- %s\n\n' "$(basename "$file")"
      cat "$file"
    done
done < "$work/crates" > "$doc/THIRD-PARTY-LICENSES"
printf '\n==== the standard library of Rust (MIT OR Apache-2.0), https://www.rust-lang.org\n' >> "$doc/THIRD-PARTY-LICENSES"

tar -C "$work" -cf - "$name" | gzip -n > "$work/archive"
mv "$work/archive" "$to/$name.tar.gz"
echo "$to/$name.tar.gz"
