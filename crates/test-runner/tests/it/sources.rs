//! Where events come from and go to: the host, images, webhooks, the result service.

mod host_watch;
