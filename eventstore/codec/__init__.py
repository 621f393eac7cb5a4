"""Shape: canonical bytes, Arrow columns, JSON, compression and upcasting. No file is opened here."""
