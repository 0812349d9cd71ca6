//! What keeps packets from arriving is found, said and fixed, and fixes are reverted.

mod address;
mod answers;
mod bed;
mod bridge;
mod devices;
mod ephemeral_ports;
mod fix;
mod foreign_program;
mod hints;
mod host;
mod link;
mod locator;
mod mac;
mod moves;
mod pass_program;
mod peer_napi;
mod rediscover;
mod replies;
mod report;
mod rule_device;
mod segments;
mod shadowed_rule;
mod tags;
mod undo;
mod warnings;
