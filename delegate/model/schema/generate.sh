#!/bin/sh
# Writes src/lib.rs from tflite.fbs. Needs rustfmt, and flatc on the PATH or in $FLATC, of the
# same version as the flatbuffers crate.
set -eu

version=25.12.19
schema_dir=$(cd "$(dirname "$0")" && pwd)
flatc=${FLATC:-flatc}

if ! found=$("$flatc" --version); then
    echo "generate.sh: cannot run '$flatc'; put flatc $version on the PATH or in \$FLATC" >&2
    exit 1
fi
if [ "$found" != "flatc version $version" ]; then
    echo "generate.sh: want flatc version $version, found: $found" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$flatc" --rust --gen-object-api -o "$work" "$schema_dir/tflite.fbs"

cat >"$work/lib.rs" <<'HEADER'
//! The flatbuffers code for `tflite.fbs`, written by `generate.sh`: `tfl::Model` and
//! the rest read a file in place, `tfl::ModelT` and the rest own what they hold.

#![allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    missing_docs,
    unsafe_code,
    reason = "generated"
)]

HEADER
# flatc puts the `extern crate` where only a crate root can use it, and lets no other crate make a
# value of a table's type.
sed -e '/^ *#\[non_exhaustive\]$/d' -e '/^extern crate alloc;$/d' -e 's/^pub mod tfl {$/&\n    extern crate alloc;\n/' \
    "$work/tflite_generated.rs" >>"$work/lib.rs"
rustfmt --edition 2024 "$work/lib.rs"
mv "$work/lib.rs" "$schema_dir/src/lib.rs"
