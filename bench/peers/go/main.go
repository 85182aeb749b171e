// What a Go team writes itself: round robin over net/http/httputil's reverse proxy.
//
//	proxy PORT BACKEND-PORT...
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Buffers for bodies. Without them each response would allocate one.
type buffers struct{ sync.Pool }

func (pool *buffers) Get() []byte       { return *pool.Pool.Get().(*[]byte) }
func (pool *buffers) Put(buffer []byte) { pool.Pool.Put(&buffer) }

func main() {
	var backends []*url.URL
	for _, port := range os.Args[2:] {
		backends = append(backends, &url.URL{Scheme: "http", Host: "127.0.0.1:" + port})
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns = 0
	transport.MaxIdleConnsPerHost = 512
	transport.DisableCompression = true
	var turn atomic.Uint64
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		BufferPool: &buffers{sync.Pool{New: func() any {
			buffer := make([]byte, 32*1024)
			return &buffer
		}}},
		Rewrite: func(request *httputil.ProxyRequest) {
			request.SetURL(backends[turn.Add(1)%uint64(len(backends))])
			request.Out.Host = request.In.Host
			request.SetXForwarded()
		},
	}
	server := &http.Server{
		Addr:              "127.0.0.1:" + os.Args[1],
		Handler:           proxy,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       75 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}
