//! One TOML file to the settings that each part owns.
