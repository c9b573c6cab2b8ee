"""What was recorded once and is judged in tests: sessions of the upgrade gate, results of tools."""
