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

/// Files that are one sample each.
#[derive(Debug, PartialEq)]
pub(super) struct Files {
    pub(super) kind: Kind,
    pub(super) paths: Vec<PathBuf>,
    /// The folder that they were looked for in.
    pub(super) base: PathBuf,
    /// The names of the folders that hold them, one a class, in the order of their code points; empty where the
    /// files lie in no such folders.
    pub(super) classes: Vec<String>,
}

/// The pictures, or else the `.npy` files, directly in a folder, in natural order; files of other kinds and
/// hidden ones are left out. Where there are none, those of the folders in it, one of each folder in turn, so
/// that the first few are of many classes.
pub(super) fn folder(path: &Path) -> Result<Files, SampleError> {
    let contents = Contents::read(path)?;
    let (mut kind, mut paths) = contents.samples(path)?;
    let mut classes = Vec::new();
    if paths.is_empty() {
        let mut folders = contents.folders;
        folders.sort();
        let mut columns = Vec::new();
        for folder in &folders {
            let (next, paths) = Contents::read(folder)?.samples(folder)?;
            let first: Option<&PathBuf> = columns.iter().flatten().next();
            match (first, paths.first()) {
                (Some(first), Some(other)) if next != kind => {
                    let (image, array) = match kind {
                        Kind::Images => (first, other),
                        _ => (other, first),
                    };
                    return Err(mixed(path, image, array));
                }
                (None, Some(_)) => kind = next,
                _ => {}
            }
            classes.push(file_name(folder));
            columns.push(paths);
        }
        paths = in_turn(columns);
    }
    Ok(Files {
        kind,
        paths,
        base: path.to_owned(),
        classes,
    })
}

/// What a folder holds, hidden files aside.
#[derive(Default)]
struct Contents {
    images: Vec<PathBuf>,
    arrays: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Contents {
    fn read(path: &Path) -> Result<Self, SampleError> {
        let read_error = SampleError::reading(path);
        let mut contents = Self::default();
        for entry in fs::read_dir(path).map_err(&read_error)? {
            let file = entry.map_err(&read_error)?.path();
            if file_name(&file).starts_with('.') {
                continue;
            }
            if file.is_dir() {
                contents.folders.push(file);
            } else if file.is_file() {
                match FileKind::of(&file) {
                    FileKind::Image => contents.images.push(file),
                    FileKind::Npy => contents.arrays.push(file),
                    FileKind::Npz | FileKind::List | FileKind::Raw => {}
                }
            }
        }
        for files in [&mut contents.images, &mut contents.arrays] {
            files.sort_by(|a, b| {
                natural(&a.to_string_lossy(), &b.to_string_lossy()).then_with(|| a.cmp(b))
            });
        }
        Ok(contents)
    }

    /// The files that are samples, which `path` holds.
    fn samples(&self, path: &Path) -> Result<(Kind, Vec<PathBuf>), SampleError> {
        match (self.images.first(), self.arrays.first()) {
            (Some(image), Some(array)) => Err(mixed(path, image, array)),
            (None, Some(_)) => Ok((Kind::NpyFolder, self.arrays.clone())),
            _ => Ok((Kind::Images, self.images.clone())),
        }
    }
}

fn mixed(path: &Path, image: &Path, array: &Path) -> SampleError {
    SampleError::MixedFolder {
        path: path.to_owned(),
        image: file_name(image),
        array: file_name(array),
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The first of each column, then the second of each, and so on.
fn in_turn(columns: Vec<Vec<PathBuf>>) -> Vec<PathBuf> {
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let mut paths = Vec::new();
    while !columns.is_empty() {
        columns.retain_mut(|column| {
            column.next().is_some_and(|path| {
                paths.push(path);
                true
            })
        });
    }
    paths
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
        let files = folder(dir.path()).unwrap();
        assert_eq!(
            files,
            Files {
                kind: Kind::Images,
                paths: vec![dir.path().join("9.jpeg"), dir.path().join("10.PNG")],
                base: dir.path().to_owned(),
                classes: vec![],
            }
        );
        fs::write(dir.path().join("x.npy"), b"").unwrap();
        assert!(matches!(
            folder(dir.path()),
            Err(SampleError::MixedFolder { .. })
        ));
    }

    #[test]
    fn folders_of_classes_give_one_sample_of_each_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "10", "9", ".git"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in [
            "b/1.png",
            "9/2.png",
            "9/10.png",
            "b/2.png",
            "b/3.png",
            ".git/1.png",
        ] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        fs::write(dir.path().join("notes.md"), b"").unwrap();
        let files = folder(dir.path()).unwrap();
        let expected = ["9/2.png", "b/1.png", "9/10.png", "b/2.png", "b/3.png"];
        assert_eq!(files.paths, expected.map(|name| dir.path().join(name)));
        // As Python sorts them, and an empty class is one too.
        assert_eq!(files.classes, ["10", "9", "b"]);
        fs::write(dir.path().join("10/x.npy"), b"").unwrap();
        assert!(matches!(
            folder(dir.path()),
            Err(SampleError::MixedFolder { image, array, .. }) if image == "2.png" && array == "x.npy"
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
