//! Users of submission, all with the same password.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What all of them log in with.
pub const PASSWORD: &str = "secret";

/// Of [`PASSWORD`], made with `openssl passwd -6`.
const HASH: &str =
    "$6$inrushtests$3k6JOt54ooqyy.VAPi00CxjfU1vWzrMP/sbFYUaONFXfC.W7O4iUY.wS1pJ0BH1rpmkfv1uyRPvWPw4Y2oztD.";

/// Writes a file of users: name and the addresses that they may send as, empty = their name.
///
/// # Panics
/// It cannot be written.
#[track_caller]
pub fn write(file: &Path, users: &[(&str, &str)]) {
    let separator = |addresses: &str| if addresses.is_empty() { "" } else { ":" };
    let line =
        |(name, addresses): &(&str, &str)| format!("{name}:{HASH}{}{addresses}\n", separator(addresses));
    let text: String = users.iter().map(line).collect();
    // In one step, as whoever changes the file of a running gateway does.
    let new = file.with_extension("new");
    let written = fs::write(&new, text)
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o600)))
        .and_then(|()| fs::rename(&new, file));
    written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
