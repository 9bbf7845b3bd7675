//! Splitting work over the threads of the pool that the caller is already inside. Splits by halves with `rayon::join`, which
//! allocates nothing.

use std::ops::Range;

use crate::Isa;

/// Into how many parts to split `multiply_adds` of work over `rows` rows for `threads` threads.
///
/// One if handing a part over costs about as much as it saves: about five microseconds of work.
pub fn parts(isa: Isa, threads: usize, rows: usize, multiply_adds: usize) -> usize {
    let worth_a_thread = match isa {
        Isa::Portable => 20_000,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => 200_000,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => 500_000,
    };
    threads.min(rows).min(multiply_adds / worth_a_thread).max(1)
}

/// Calls `work(rows, output, scratch)` for `parts` near-equal ranges of `rows`, each with its rows of `output` (`row_len`
/// elements each, but the last may be shorter; `output` starts at the first of `rows`) and its own share of `scratch`.
pub fn split_rows<T: Send, S: Send>(
    parts: usize,
    rows: Range<usize>,
    row_len: usize,
    output: &mut [T],
    scratch: &mut [S],
    work: &(impl Fn(Range<usize>, &mut [T], &mut [S]) + Sync),
) {
    if parts <= 1 {
        return work(rows, output, scratch);
    }
    let low_parts = parts / 2;
    let low_rows = rows.len() * low_parts / parts;
    let middle = rows.start + low_rows;
    let (low_output, high_output) = output.split_at_mut(low_rows * row_len);
    let (low_scratch, high_scratch) = scratch.split_at_mut(scratch.len() / parts * low_parts);
    rayon::join(
        || {
            split_rows(
                low_parts,
                rows.start..middle,
                row_len,
                low_output,
                low_scratch,
                work,
            )
        },
        || {
            split_rows(
                parts - low_parts,
                middle..rows.end,
                row_len,
                high_output,
                high_scratch,
                work,
            )
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_row_to_one_part() {
        for parts in 1..=5 {
            let mut output = vec![0usize; 7 * 3];
            let mut scratch = vec![0u8; parts * 4 + 3];
            split_rows(
                parts,
                10..17,
                3,
                &mut output,
                &mut scratch,
                &|rows, output, scratch| {
                    assert!(scratch.len() >= 4);
                    for (row, cells) in rows.zip(output.chunks_exact_mut(3)) {
                        cells.iter_mut().for_each(|cell| *cell += row);
                    }
                },
            );
            assert!(
                output
                    .chunks(3)
                    .zip(10..)
                    .all(|(cells, row)| cells == [row; 3])
            );
        }
    }

    #[test]
    fn keeps_small_work_together() {
        assert_eq!(parts(Isa::Portable, 4, 100, 1000), 1);
        assert_eq!(parts(Isa::Portable, 4, 2, 1 << 30), 2);
        assert_eq!(parts(Isa::Portable, 0, 2, 1 << 30), 1);
    }
}
