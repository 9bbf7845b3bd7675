//! Packages for tests, here and in what runs them.

use flatbuffers::FlatBufferBuilder;

/// An executable of `kind` with `parameters` bytes and one input.
fn made(kind: i16, parameters: usize) -> Vec<u8> {
    let mut fbb = FlatBufferBuilder::new();
    let slot = |n: u16| 4 + 2 * n;
    let name = fbb.create_string("x");
    let start = fbb.start_table();
    fbb.push_slot_always(slot(0), 130i32);
    fbb.push_slot_always(slot(1), 0.5f32);
    let numerics = fbb.end_table(start);
    let start = fbb.start_table();
    fbb.push_slot_always(slot(0), name);
    fbb.push_slot_always(slot(1), 12i32);
    fbb.push_slot_always(slot(2), 1i32);
    fbb.push_slot_always(slot(3), 4i32);
    fbb.push_slot_always(slot(4), 3i32);
    fbb.push_slot_always(slot(5), numerics);
    fbb.push_slot_always(slot(6), 8i16);
    let layer = fbb.end_table(start);
    let layers = fbb.create_vector(&[layer]);
    let code = fbb.create_vector(&[0u8; 40]);
    let start = fbb.start_table();
    fbb.push_slot_always(slot(0), code);
    let chunk = fbb.end_table(start);
    let chunks = fbb.create_vector(&[chunk]);
    let weights = fbb.create_vector(&vec![0u8; parameters]);
    let chip = fbb.create_string("beagle");
    let start = fbb.start_table();
    fbb.push_slot_always(slot(5), chunks);
    fbb.push_slot_always(slot(6), weights);
    fbb.push_slot_always(slot(8), layers);
    fbb.push_slot_always(slot(10), chip);
    fbb.push_slot_always(slot(12), 832i32);
    fbb.push_slot_always(slot(13), kind);
    fbb.push_slot_always(slot(14), 7u64);
    let root = fbb.end_table(start);
    fbb.finish(root, None);
    fbb.finished_data().to_vec()
}

/// A map with one text under the key `key`, every number 4 bytes wide.
pub fn map(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let word = |bytes: &mut Vec<u8>, value: usize| bytes.extend((value as u32).to_le_bytes());
    let mut texts = Vec::new();
    for (_, text) in entries {
        word(&mut bytes, text.len());
        texts.push(bytes.len());
        bytes.extend(*text);
        bytes.push(0);
    }
    let mut keys = Vec::new();
    for (key, _) in entries {
        keys.push(bytes.len());
        bytes.extend(key.bytes().chain([0]));
    }
    word(&mut bytes, entries.len());
    let start = bytes.len();
    for key in keys {
        let back = bytes.len() - key;
        word(&mut bytes, back);
    }
    let back = bytes.len() - start;
    for value in [back, 4, entries.len()] {
        word(&mut bytes, value);
    }
    let values = bytes.len();
    for text in texts {
        let back = bytes.len() - text;
        word(&mut bytes, back);
    }
    bytes.extend(entries.iter().map(|_| 5 << 2 | 2));
    let back = bytes.len() - values;
    word(&mut bytes, back);
    bytes.extend([9 << 2 | 2, 4]);
    bytes
}

/// A package for runtime `runtime`, of two executables.
pub fn package(runtime: i32) -> Vec<u8> {
    let mut fbb = FlatBufferBuilder::new();
    let parts = [made(2, 100), made(1, 5000)];
    // A string may hold any bytes in the format; Rust's builder asks for vectors of bytes.
    let parts: Vec<_> = parts
        .iter()
        .map(|p| fbb.create_vector(p.as_slice()))
        .collect();
    let parts = fbb.create_vector(&parts);
    let start = fbb.start_table();
    fbb.push_slot_always(4, parts);
    let root = fbb.end_table(start);
    fbb.finish(root, None);
    let nested = fbb.finished_data().to_vec();
    let mut fbb = FlatBufferBuilder::new();
    let nested = fbb.create_vector(&nested);
    let start = fbb.start_table();
    fbb.push_slot_always(4, runtime);
    fbb.push_slot_always(6, nested);
    let root = fbb.end_table(start);
    fbb.finish(root, Some("DWN1"));
    fbb.finished_data().to_vec()
}
