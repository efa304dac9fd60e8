//! Per-core cells and histograms, merged at scrape.
