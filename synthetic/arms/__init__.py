"""Arms, methods in settings: tuned on some problems, measured on others, kept on record and made again."""
