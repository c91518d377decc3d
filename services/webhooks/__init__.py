"""Sending webhooks: which addresses may be told (`address`), how a message is signed (`signature`),
one attempt (`request`), and the loop in the reconciler (`sender`)."""
