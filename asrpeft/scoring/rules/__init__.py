"""Rules of writing, one file per normaliser; a new file here is found and tested without any other edit."""
