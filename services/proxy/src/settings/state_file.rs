//! The setting of where operators' changes are kept: `PROXY_STATE_FILE`.

use std::path::Path;

use chassis::settings::Mistakes;

/// The file, if one is wanted. Only what can never be one is refused: a folder that is not there yet may
/// be a disk that comes later, and is no reason not to serve.
#[allow(clippy::option_option)] // None only if a mistake was noted, as with all parsers here.
pub(super) fn parse(path: Option<&str>, mistakes: &mut Mistakes) -> Option<Option<String>> {
    let Some(path) = path else { return Some(None) };
    mistakes.parse("proxy_state_file", path, |path| {
        let is_file = !path.is_empty() && !path.ends_with('/') && !Path::new(path).is_dir();
        is_file
            .then(|| Some(path.to_owned()))
            .ok_or_else(|| "the path of a file, such as /var/lib/evenkeel/state.json".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, tests::mistakes};

    #[test]
    fn a_folder_that_is_missing_keeps_nobody_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later/state.json");
        let settings = Settings::from_variables(&[("PROXY_STATE_FILE", path.to_str().unwrap())]);
        assert_eq!(settings.state_file.as_deref(), path.to_str());
        assert!(!folder.path().join("later").exists(), "reading settings writes nothing");
    }

    #[test]
    fn what_can_never_be_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_str().unwrap(), "/does/not/exist/"] {
            let found = mistakes(&[("PROXY_STATE_FILE", path)]);
            assert!(found[0].contains("expected the path of a file"), "{found:?}");
        }
    }
}
