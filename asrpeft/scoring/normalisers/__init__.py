"""One file per normaliser; a new file here is found and tested without any other edit."""
