"""Sending webhooks: which addresses may be sent to (`address`), how a message is signed (`signature`),
one attempt (`request`), and the loop in the reconciler (`sender`)."""
