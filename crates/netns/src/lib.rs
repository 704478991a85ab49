//! Linux network namespaces: bridges, veth pairs, addresses, NAT and published ports, over netlink.
