"""What a gateway says of itself: whether it works, how it is, what is wrong and what to do."""
