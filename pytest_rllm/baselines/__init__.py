"""What is stored of earlier sessions, and what a fresh verdict means beside it."""
