"""What serves all packages: faces, command lines, records on disk, names of methods."""
