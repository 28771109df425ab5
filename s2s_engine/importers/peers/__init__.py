"""The programs that checkpoints are from, run beside a model for `convert --verify` and the tests.
Each module imports its framework when it is loaded; nothing else of the package does."""
