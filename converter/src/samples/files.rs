//! Which files a path stands for: by its name, by what a folder holds, by the lines of a list.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::{Kind, SampleError};

/// Longest line of a list; a longer one is no path.
const MAX_LINE: u64 = 1 << 16;

/// What one file is, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Npy,
    Npz,
    Image,
    List,
    Raw,
}

impl FileKind {
    pub(super) fn of(path: &Path) -> Self {
        let extension = path
            .extension()
            .map(|e| e.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("npy") => Self::Npy,
            Some("npz") => Self::Npz,
            Some("png" | "jpg" | "jpeg" | "bmp" | "webp") => Self::Image,
            Some("txt") => Self::List,
            _ => Self::Raw,
        }
    }
}

/// The pictures, or else the `.npy` files, directly in a folder, in natural order; files of other kinds and
/// hidden ones are left out.
pub(super) fn folder(path: &Path) -> Result<(Kind, Vec<PathBuf>), SampleError> {
    let read_error = SampleError::reading(path);
    let (mut images, mut arrays) = (vec![], vec![]);
    for entry in fs::read_dir(path).map_err(&read_error)? {
        let file = entry.map_err(&read_error)?.path();
        let hidden = file
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden || !file.is_file() {
            continue;
        }
        match FileKind::of(&file) {
            FileKind::Image => images.push(file),
            FileKind::Npy => arrays.push(file),
            FileKind::Npz | FileKind::List | FileKind::Raw => {}
        }
    }
    if let (Some(image), Some(array)) = (images.first(), arrays.first()) {
        let name = |file: &Path| {
            file.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        return Err(SampleError::MixedFolder {
            path: path.to_owned(),
            image: name(image),
            array: name(array),
        });
    }
    let (kind, mut files) = if arrays.is_empty() {
        (Kind::Images, images)
    } else {
        (Kind::NpyFolder, arrays)
    };
    files
        .sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()).then_with(|| a.cmp(b)));
    Ok((kind, files))
}

/// The first `limit` paths of a list, one a line, relative to the list's folder; empty lines are left out.
pub(super) fn list(path: &Path, limit: usize) -> Result<Vec<PathBuf>, SampleError> {
    let read_error = SampleError::reading(path);
    let mut reader = BufReader::new(File::open(path).map_err(&read_error)?);
    let base = path.parent().unwrap_or(Path::new(""));
    let mut files = vec![];
    while files.len() < limit {
        let mut line = String::new();
        let read = (&mut reader)
            .take(MAX_LINE)
            .read_line(&mut line)
            .map_err(&read_error)?;
        if read == 0 {
            break;
        }
        let name = line.trim_start_matches('\u{feff}').trim();
        if name.is_empty() {
            continue;
        }
        let file = base.join(name);
        let metadata = fs::metadata(&file).map_err(SampleError::reading(&file))?;
        if metadata.is_dir() || FileKind::of(&file) == FileKind::List {
            return Err(SampleError::NestedList { path: file });
        }
        files.push(file);
    }
    Ok(files)
}

/// Order in which people number files: `img9` before `img10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (Some(x), Some(y)) = (a.chars().next(), b.chars().next()) else {
            return a.len().cmp(&b.len());
        };
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, n) = (take_digits(&mut a), take_digits(&mut b));
            m.len().cmp(&n.len()).then_with(|| m.cmp(n))
        } else {
            a = &a[x.len_utf8()..];
            b = &b[y.len_utf8()..];
            x.cmp(&y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Cuts the digits off the front of `text` and returns them without leading zeros.
fn take_digits<'a>(text: &mut &'a str) -> &'a str {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits.trim_start_matches('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_as_people_count() {
        let mut names = [
            "b1",
            "a10",
            "a9",
            "a",
            "a09b",
            "a100000000000000000000000",
            "é2",
        ];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            [
                "a",
                "a9",
                "a09b",
                "a10",
                "a100000000000000000000000",
                "b1",
                "é2"
            ]
        );
    }

    #[test]
    fn a_folder_gives_its_visible_samples_only() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["10.PNG", "9.jpeg", "._9.jpeg", "labels.txt", "notes"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        fs::create_dir(dir.path().join("sub.png")).unwrap();
        let (kind, files) = folder(dir.path()).unwrap();
        assert_eq!(kind, Kind::Images);
        assert_eq!(
            files,
            [dir.path().join("9.jpeg"), dir.path().join("10.PNG")]
        );
        fs::write(dir.path().join("x.npy"), b"").unwrap();
        assert!(matches!(
            folder(dir.path()),
            Err(SampleError::MixedFolder { .. })
        ));
    }

    #[test]
    fn a_list_is_relative_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.txt");
        for name in ["a b.png", "c.npy"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        fs::write(&path, "\u{feff}a b.png\r\n\n  c.npy").unwrap();
        assert_eq!(
            list(&path, 9).unwrap(),
            [dir.path().join("a b.png"), dir.path().join("c.npy")]
        );
        assert_eq!(list(&path, 1).unwrap().len(), 1);
        fs::write(&path, "missing.png\n").unwrap();
        assert!(
            matches!(list(&path, 9), Err(SampleError::Read { path, .. }) if path.ends_with("missing.png"))
        );
        fs::write(&path, "list.txt\n").unwrap();
        assert!(matches!(
            list(&path, 9),
            Err(SampleError::NestedList { .. })
        ));
        fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        assert!(matches!(list(&path, 9), Err(SampleError::Read { .. })));
        fs::write(&path, [0xff, 0xfe, b'\n']).unwrap();
        assert!(matches!(list(&path, 9), Err(SampleError::Read { .. })));
    }
}
