//! Getting an application's traffic: namespaces, nf_tables rules over netlink, mesh DNS.
