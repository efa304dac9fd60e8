//! The corpus of the fuzz target `recover`, replayed without libFuzzer.

use std::fs;
use std::path::Path;

#[path = "../../../tests/fuzz/src/recover.rs"]
#[allow(unreachable_pub, clippy::expect_used, reason = "public for the crate of the fuzz targets")]
mod target;

#[test]
fn the_corpus_of_the_fuzz_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/fuzz/recover");
    let mut replayed = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus is in the tree") {
        let path = entry.expect("the corpus can be listed").path();
        let input = fs::read(&path).expect("the corpus can be read");
        #[allow(clippy::print_stdout, reason = "names the input when the test fails")]
        {
            println!("{}", path.display());
        }
        target::run(&input);
        replayed += 1;
    }
    assert!(replayed >= 20, "{replayed} inputs in {}", corpus.display());
}
