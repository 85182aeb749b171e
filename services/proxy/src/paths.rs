//! Names of files that belong to another.

use std::path::{Path, PathBuf};

/// A file beside another, whose whole name it keeps: others in the folder may differ from that only in
/// what follows a dot.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}
