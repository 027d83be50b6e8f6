"""What the two face recipes share."""
