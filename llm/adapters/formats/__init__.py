"""Files and folders that hold adapters: recognized by content, read layer by layer, written whole or not at all."""
