//go:build ignore

// Writes no_proxy.tsv: what golang.org/x/net/http/httpproxy, whose rules kubeadm, containerd and kubelet follow, says of
// each list of rules and each origin. In a module that requires golang.org/x/net: go run no_proxy.go > no_proxy.tsv
package main

import (
	"fmt"
	"net/url"

	"golang.org/x/net/http/httpproxy"
)

var rules = []string{
	"", "*", "console.example.com", "example.com", ".example.com", "*.example.com", "xample.com", "EXAMPLE.com",
	"com", "example.com:443", "example.com:8443", ".example.com:8443", "*.example.com:8443",
	"10.0.0.0/8", "10.77.1.0/24", "10.77.1.10", "10.77.1.10:8443", "10.77.1.10:443", "10.77.1.0", "0.0.0.0/0",
	"2001:db8::/32", "2001:db8::10", "[2001:db8::10]:8443", "2001:DB8:0:0::10", "::/0", "fd00::/8",
	"::ffff:10.77.1.10", "localhost", "127.0.0.1", "other.example,10.77.1.0/24", " example.com , 192.0.2.1",
	"other.example,*", "example", "e", ".", "*.", "10.", "10.77.1.10/33", "example.com:", ":8443", "ex*mple.com",
	"bücher.example",
}

var origins = []string{
	"https://console.example.com", "https://console.example.com:8443", "https://example.com", "https://example.com:8443",
	"https://example.com.evil.test", "https://notexample.com", "https://10.77.1.10", "https://10.77.1.10:8443",
	"https://10.78.0.1", "https://11.0.0.1", "https://[2001:db8::10]", "https://[2001:db8::10]:8443",
	"https://[2001:db9::1]", "https://[::ffff:10.77.1.10]:8443", "https://localhost:8443", "https://127.0.0.1:8443", "https://127.8.8.8",
	"https://[::1]:8443", "https://xn--bcher-kva.example", "https://shop.xn--bcher-kva.example",
}

func main() {
	for _, rule := range rules {
		config := httpproxy.Config{HTTPSProxy: "http://proxy.test:3128", NoProxy: rule}
		choose := config.ProxyFunc()
		for _, origin := range origins {
			parsed, err := url.Parse(origin)
			if err != nil {
				panic(err)
			}
			proxy, err := choose(parsed)
			if err != nil {
				panic(err)
			}
			way := "proxy"
			if proxy == nil {
				way = "direct"
			}
			fmt.Printf("%s\t%s\t%s\n", rule, origin, way)
		}
	}
}
