"""Words to phonemes, file to file. Knows its compiled stage."""
