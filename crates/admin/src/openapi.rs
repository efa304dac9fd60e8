//! The description of the API for programs (OpenAPI 3.1), served beside it.

/// The document.
pub(crate) const DOCUMENT: &str = include_str!("../openapi.json");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_change_is_marked() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        for reference in DOCUMENT.split("\"$ref\": \"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                assert!(matches!(method.as_str(), "get" | "post"), "{method} {path}");
                let marked = operation["parameters"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|one| one["name"] == "X-Inrush");
                assert_eq!(marked, method == "post", "{method} {path}");
                assert!(operation["responses"]["200"].is_object(), "{method} {path}");
            }
        }
    }
}
