"""An engine, a report, a data set and a pair of models for pytest-rllm, from outside of it."""
