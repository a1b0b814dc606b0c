//! What a name may be where it becomes something else: a file on the host, a mount point, an environment variable,
//! permission bits.
//!
//! The agent is root, so that a name which leads out of its folder is a way onto the host. One rule serves everybody:
//! a [`crate::profile::Profile`] is refused at start, a customer's wish at the API, and a spec by [`crate::wire`].

/// Bytes of a file's name: NAME_MAX of every Linux filesystem that we use (limits.h).
pub const FILE_NAME_MAX_BYTES: usize = 255;

/// Permission bits that a mode can have: sticky, setgid and setuid included.
pub const MODE_MAX: u32 = 0o7777;

/// Whether that is one part of a path, and stays in its folder.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    !name.contains(['/', '\0']) && !matches!(name, "" | "." | "..") && name.len() <= FILE_NAME_MAX_BYTES
}

/// Whether that is an absolute path of which no part climbs.
#[must_use]
pub fn is_mount_point(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..")
}

/// Whether that can be an environment variable's name. Docker takes `NAME=value` in one text: an `=` in the name would
/// set another variable.
#[must_use]
pub fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leaves_its_folder_is_no_file_name() {
        for bad in ["", ".", "..", "../shadow", "a/b", "/etc/passwd", "a\0b", &"a".repeat(256)] {
            assert!(!is_file_name(bad), "{bad:?}");
        }
        for fine in ["config.json", "..data", ".env", "gateway-token"] {
            assert!(is_file_name(fine), "{fine:?}");
        }
    }

    #[test]
    fn a_path_that_climbs_or_hangs_in_the_air_is_no_mount_point() {
        for bad in ["", "data", "/data/../etc", "/..", "/a\0"] {
            assert!(!is_mount_point(bad), "{bad:?}");
        }
        for fine in ["/data", "/data/a..b", "/home/node/.openclaw"] {
            assert!(is_mount_point(fine), "{fine:?}");
        }
    }

    #[test]
    fn a_name_with_an_equals_sign_is_no_variable() {
        assert!(is_variable("PORT"));
        for bad in ["", "PORT=1", "A\0"] {
            assert!(!is_variable(bad), "{bad:?}");
        }
    }
}
