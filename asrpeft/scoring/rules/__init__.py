"""Rules of writing, one file per normalizer; a new file here is found and tested without any other edit."""
