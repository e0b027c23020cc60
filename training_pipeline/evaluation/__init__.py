"""Measuring: metrics, calibration, intervals over groups, the TF-IDF baseline, plots and predictions.jsonl."""
