"""One session of measuring: its engines, its cases, the comparisons they make."""
