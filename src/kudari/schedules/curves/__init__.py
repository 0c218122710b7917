"""One schedule per file; the file, the function and the name in texts are the same word."""
