"""The JSON that others may read or write: verdicts and certificates, as schemas that are published beside this file."""
