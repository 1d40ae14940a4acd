"""What must stay fast, timed side by side with what it is measured by."""
