"""What is asked, and whether an answer is right."""
