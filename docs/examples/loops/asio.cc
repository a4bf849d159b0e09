/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exits in an io_context of Asio (1.22).
 *
 *     c++ -std=c++17 asio.cc $(pkg-config --cflags --libs exitbus) -pthread -o asio
 *     ./asio 20000 200
 */
#include "feed.h"

#include <asio.hpp>
#include <exitbus/exitbus.hpp>

/*
 * A descriptor that Asio watches and does not close: it belongs to the subscription. release()
 * takes it out of the loop; the destructor of its base, and close(), would close it.
 */
struct borrowed_descriptor : asio::posix::stream_descriptor {
    using asio::posix::stream_descriptor::stream_descriptor;
    ~borrowed_descriptor()
    {
        release();
    }
};

class monitor
{
  public:
    monitor(asio::io_context &loop, const exit_bus::bus &bus, struct feed &feed)
        : exits_(bus, exit_bus::any_pid()), ready_(loop, exits_.fd()), feed_(feed)
    {
        wait();
    }

  private:
    void wait()
    {
        ready_.async_wait(ready_.wait_read, [this](const asio::error_code &error) {
            if (error != asio::error::operation_aborted) /* else there is no monitor any more */
                on_exits(error);
        });
    }

    void on_exits(const asio::error_code &error)
    {
        if (error)
            throw asio::system_error(error);
        receive_all();
        if (feed_woken(&feed_))
            wait();
    }

    /*
     * Asio is edge-triggered, so receive until there is nothing, and only then wait again. Where
     * memory is short the descriptor stays readable, and async_wait(), which looks first, sees it.
     */
    void receive_all()
    try {
        while (auto event = exits_.try_receive())
            feed_event(&feed_, &*event); /* your code */
    } catch (const std::system_error &error) {
        if (error.code() != std::errc::not_enough_memory)
            throw;
    }

    /* First out of the loop, then unsubscribe: that closes the descriptor, and the next file that
     * is opened may get its number. Members are destroyed in the reverse of this order. */
    exit_bus::subscription exits_;
    borrowed_descriptor ready_;
    struct feed &feed_;
};

int main(int argc, char **argv)
try {
    struct feed feed;
    feed_arguments(&feed, "asio", argc, argv, false);
    exit_bus::bus bus;
    {
        asio::io_context loop;
        monitor monitor(loop, bus, feed);
        feed_start(&feed, bus.get());
        loop.run(); /* until nothing waits any more */
    }
    feed_end(&feed);
    return 0;
} catch (const std::exception &error) {
    fail("asio", error.what());
}
