//! The plain pages that a visitor sees when a bot cannot answer. Pure text: the directory answers with some,
//! Caddy's configuration carries the others, and no bot's name or address stands on any.
//!
//! No page holds a brace: Caddy would read one as a placeholder.

/// How long a browser waits before it asks again for a bot that is starting, in seconds: a small bot starts
/// in one.
pub const RETRY_AFTER_S: u32 = 5;

/// What a page is sent as.
pub const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// No bot has this name.
#[must_use]
pub fn unknown() -> String {
    page("There is no bot here", "No bot on this server has this name. Check the address.", None)
}

/// The bot does not answer: it starts, or was stopped. The page asks again by itself.
#[must_use]
pub fn starting() -> String {
    let text = "It may still be starting up, or it was stopped by its owner. This page tries again by itself.";
    page("This bot is starting", text, Some(RETRY_AFTER_S))
}

/// The bot took the request and did not begin to answer in time.
#[must_use]
pub fn late() -> String {
    page("This bot did not answer in time", "It is running, and took too long over this request.", None)
}

/// The request is larger than any bot takes.
#[must_use]
pub fn too_large(mib: u64) -> String {
    page("That is too much at once", &format!("A request to a bot may carry {mib} MiB at most."), None)
}

/// The connection was made for another name.
#[must_use]
pub fn misdirected() -> String {
    let text = "This connection was made for another name. Open the address in a new window.";
    page("This request went astray", text, None)
}

fn page(title: &str, text: &str, again_s: Option<u32>) -> String {
    let again = again_s.map(|s| format!("<meta http-equiv=\"refresh\" content=\"{s}\">\n")).unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n{again}<title>{title}</title>\n\
         <body style=\"font: 1.1rem/1.6 system-ui, sans-serif; max-width: 32rem; margin: 20vh auto; padding: 0 1.5rem\">\n\
         <h1 style=\"font-size: 1.4rem; font-weight: 600\">{title}</h1>\n<p>{text}</p>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_holds_what_caddy_would_read_as_a_placeholder() {
        for page in [unknown(), starting(), late(), too_large(32), misdirected()] {
            assert!(!page.contains(['{', '}']), "{page}");
        }
    }

    #[test]
    fn only_the_page_of_a_bot_that_starts_asks_again() {
        assert!(starting().contains("content=\"5\""));
        for page in [unknown(), late(), too_large(32), misdirected()] {
            assert!(!page.contains("refresh"), "{page}");
        }
    }
}
