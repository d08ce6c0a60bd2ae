"""Coverage-guided fuzzing with atheris: `make fuzz`. What it finds becomes an example of a test."""
