"""Object stores: how one is reached, and what its refusals mean; for stores and for images alike."""
