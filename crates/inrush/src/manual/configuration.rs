//! The manual page of the configuration file, made from the same text as docs/configuration.md.

use roff::{Inline, Roff, bold, italic, roman};

/// The page, `inrush.toml(5)`, of `documentation`: Markdown with headings, paragraphs, lists, blocks of code, and a table of four columns for each table of
/// settings.
pub(super) fn page(documentation: &str) -> String {
    let mut page = Roff::new();
    page.control("TH", ["inrush.toml", "5", "", &format!("inrush {}", crate::VERSION)]);
    page.control("SH", ["NAME"]).text([roman("inrush.toml - configuration of the inrush SMTP gateway")]);
    page.control("SH", ["DESCRIPTION"]);
    let mut code = false;
    for line in documentation.lines() {
        if line.starts_with("```") {
            page.control(if code { "EE" } else { "EX" }, []);
            code = !code;
        } else if code {
            page.text([roman(line)]);
        } else if let Some(heading) = line.strip_prefix("## ") {
            page.control("SH", [heading.replace('`', "").as_str()]);
        } else if let Some(row) = line.strip_prefix("| `") {
            setting(&mut page, row);
        } else if line.is_empty() {
            page.control("PP", []);
        } else if let Some(item) = line.strip_prefix("- ") {
            page.control("IP", ["\u{2022}", "2"]).text(inlines(item));
        } else if !line.starts_with("# ") && !line.starts_with('|') {
            page.text(inlines(line.trim_start()));
        }
    }
    page.to_roff()
}

/// A row of a table of settings, behind its first backquote: key, default, values, meaning.
fn setting(page: &mut Roff, row: &str) {
    // A bar in a cell is escaped.
    let row = row.replace("\\|", "\u{1}");
    let mut cells = row.trim_end_matches(" |").split(" | ").map(|cell| cell.replace('\u{1}', "|"));
    let mut cell = || cells.next().unwrap_or_default();
    let (key, default, values, meaning) = (cell(), cell(), cell(), cell());
    let default = default.replace('`', "");
    let mut tag = vec![bold(key.trim_end_matches('`'))];
    if !default.trim().is_empty() {
        tag.push(roman(format!(" = {}", default.trim())));
    }
    page.control("TP", []).text(tag);
    page.text(inlines(&meaning));
    page.control("br", []).text([italic(values)]);
}

/// Text in which code stands between backquotes, and links as `[words](target)`, of which the words are kept.
fn inlines(text: &str) -> Vec<Inline> {
    let mut words = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("](") {
        let (text, label) = before.rsplit_once('[').unwrap_or((before, ""));
        words.push_str(text);
        words.push_str(label);
        rest = behind.split_once(')').map_or("", |(_, behind)| behind);
    }
    words.push_str(rest);
    let pieces = words.split('`').enumerate();
    pieces.map(|(index, piece)| if index % 2 == 1 { bold(piece) } else { roman(piece) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_entry() {
        let documentation = inrush_config::documentation();
        let page = page(&documentation);
        for line in documentation.lines() {
            if let Some(key) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
                let entry = format!(".TP\n\\fB{key}\\fR");
                assert!(page.contains(&entry), "{key}");
            } else if let Some(heading) = line.strip_prefix("## ") {
                assert!(
                    page.contains(&format!(
                        ".SH {}",
                        heading.replace('`', "").split(' ').next().unwrap_or("")
                    )) || page.contains(&format!(".SH \"{}", heading.replace('`', ""))),
                    "{heading}"
                );
            }
        }
        assert!(page.contains("auto | io_uring | epoll"));
        assert!(!page.contains('`'));
    }

    #[test]
    fn words_of_links_stay() {
        assert_eq!(inlines("see [tls.md](tls.md) and `x`"), [roman("see tls.md and "), bold("x"), roman("")]);
    }
}
