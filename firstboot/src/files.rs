//! Files that a power cut leaves whole: the old content or the new, never half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// The longest file that is read, in bytes: more than any that we write or edit.
const MAX_LENGTH: u64 = 4 << 20;

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("Cannot {action} `{}`", path.display())]
pub(crate) struct FileError {
    action: &'static str,
    path: PathBuf,
    pub(crate) source: io::Error,
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> FileError {
        FileError { action, path: path.into(), source }
    }
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError::new(action, path, source)
}

/// User and group that a file belongs to.
pub(crate) type Owner = (u32, u32);

/// The content, or nothing where there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at("open", path)(e)),
    };
    let mut content = Vec::new();
    file.take(MAX_LENGTH).read_to_end(&mut content).map_err(at("read", path))?;
    Ok(Some(content))
}

/// Makes the file hold `content`; tells whether it had to be changed. Content, mode and owner change together, and
/// what was written is on the disk when this returns.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32, owner: Option<Owner>) -> Result<bool, FileError> {
    if read(path)?.is_some_and(|old| old == content) {
        let metadata = fs::metadata(path).map_err(at("read", path))?;
        if metadata.mode() & 0o7777 == mode && owner.is_none_or(|o| o == (metadata.uid(), metadata.gid())) {
            return Ok(false);
        }
    }
    let folder = parent(path);
    create_folder(folder, 0o755, None)?;
    // One name for each file, so that power cuts leave one forgotten file at most; hidden, so that no program takes it
    // for a drop-in.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.gatewright-new"));
    if let Err(e) = fs::remove_file(&temporary)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(at("remove", &temporary)(e));
    }
    let write = || {
        // Exclusive: a link that somebody else put there is not followed.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        if let Some((user, group)) = owner {
            fchown(&file, Some(user), Some(group))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(folder)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary); // the first error is the one to tell
        at("write", path)(e)
    })?;
    Ok(true)
}

/// Removes the file; tells whether there was one.
pub(crate) fn remove(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(parent(path)).map(|()| true).map_err(at("remove", path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(at("remove", path)(e)),
    }
}

/// Makes the folder and those above it; a new one has this mode and owner.
pub(crate) fn create_folder(path: &Path, mode: u32, owner: Option<Owner>) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    let above = parent(path);
    create_folder(above, 0o755, None)?;
    let create = || {
        fs::create_dir(path)?;
        let folder = File::open(path)?;
        if let Some((user, group)) = owner {
            fchown(&folder, Some(user), Some(group))?;
        }
        folder.set_permissions(fs::Permissions::from_mode(mode))?;
        sync_folder(above)
    };
    create().map_err(at("create", path))
}

/// Puts a file that cannot be used out of the way, for people to look at.
pub(crate) fn move_aside(path: &Path) -> Result<PathBuf, FileError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".corrupt");
    fs::rename(path, &aside).and_then(|()| sync_folder(parent(path))).map_err(at("move aside", path))?;
    Ok(aside.into())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

const BEGIN: &str = "# BEGIN gatewright-firstboot";
const END: &str = "# END gatewright-firstboot";

/// `text` with our lines between our marks, at the end; without them where `lines` is empty. Lines of others stay.
pub(crate) fn with_block(text: &str, lines: &[String]) -> String {
    let mut result = String::new();
    let mut ours = false;
    for line in text.lines() {
        match line {
            BEGIN => ours = true,
            END => ours = false,
            _ if ours => {}
            _ => {
                result.push_str(line);
                result.push('\n');
            }
        }
    }
    if !lines.is_empty() {
        for line in [BEGIN].into_iter().chain(lines.iter().map(String::as_str)).chain([END]) {
            result.push_str(line);
            result.push('\n');
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_only_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/file");
        assert!(write(&path, b"one", 0o644, None).unwrap());
        assert!(!write(&path, b"one", 0o644, None).unwrap());
        assert!(write(&path, b"one", 0o600, None).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        // A leftover of a power cut is in nobody's way.
        fs::write(folder.path().join("a/b/.file.gatewright-new"), "half").unwrap();
        assert!(write(&path, b"two", 0o600, None).unwrap());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn errors_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = write(&folder.path().join("file/below"), b"", 0o644, None).unwrap_err();
        assert!(error.to_string().ends_with("/file/below`"), "{error}");
    }

    #[test]
    fn blocks_come_and_go() {
        let with = with_block("A=1\nB=2", &["C=3".into()]);
        assert_eq!(with, format!("A=1\nB=2\n{BEGIN}\nC=3\n{END}\n"));
        assert_eq!(with_block(&with, &["D=4".into()]), format!("A=1\nB=2\n{BEGIN}\nD=4\n{END}\n"));
        assert_eq!(with_block(&with, &[]), "A=1\nB=2\n");
    }
}
