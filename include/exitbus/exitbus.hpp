/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exitbus for C++17: header only, over <exitbus/exitbus.h>, which says what the calls do.
 *
 * Conventions
 *   - An object owns its handle, and gives it up when it is destroyed. bus, subscription and reaper
 *     can be moved. receiver, process, group, task and exec can be copied, too: a copy is one more
 *     reference. An object that was moved from has no handle, and its calls fail with EINVAL.
 *   - The namespace is exit_bus, since C has a struct exitbus.
 *   - A member function that can fail throws std::system_error, with error_category(). The code is
 *     a positive errno value: compare it with std::errc. A failed call has no effect.
 *   - To find nothing is no failure: functions that may find nothing return std::optional.
 *   - A wait takes a std::chrono::duration; without one it is for ever. A time that is too long for
 *     64 bits of nanoseconds is for ever, too.
 *   - Contexts are those of the C calls: any thread, also in destructors. No function may be called
 *     in a signal handler. A bus must outlive its reapers, and calls on it.
 *   - Destructors throw nothing. What could still be wrong then, a bus with a reaper that runs say,
 *     is an error of the program: assert() says so, and the handle is leaked.
 */
#ifndef EXITBUS_EXITBUS_HPP
#define EXITBUS_EXITBUS_HPP

#include <exitbus/exitbus.h>

#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace exit_bus
{

/* -------------------------------------------------------------------------------------- errors */

/* Texts are those of exitbus_strerror(). */
inline const std::error_category &error_category() noexcept
{
    struct category final : std::error_category {
        const char *name() const noexcept override
        {
            return "exitbus";
        }
        std::string message(int error) const override
        {
            return exitbus_strerror(error);
        }
        std::error_condition default_error_condition(int error) const noexcept override
        {
            return {error, std::generic_category()};
        }
    };
    static const category instance;
    return instance;
}

/* What a C call has returned, as an exception if it is an error. */
template <class Result> Result check(Result result, const char *what)
{
    if (result < 0)
        throw std::system_error(static_cast<int>(-result), error_category(), what);
    return result;
}

namespace detail
{

inline constexpr std::int64_t for_ever = -1;

template <class Rep, class Period>
std::int64_t nanoseconds(const std::chrono::duration<Rep, Period> &time)
{
    using limit = std::chrono::duration<long double, std::nano>;
    if (time <= time.zero())
        return 0;
    if (limit(time).count() >= 9.2e18L)
        return for_ever;
    auto whole = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
    return whole > 0 ? whole : 1;
}

/* A handle that can be moved. */
template <class Handle, int (*Give)(Handle *)> class unique
{
  public:
    unique() noexcept = default;
    explicit unique(Handle *handle) noexcept : handle_(handle)
    {
    }
    unique(unique &&other) noexcept : handle_(std::exchange(other.handle_, nullptr))
    {
    }
    unique &operator=(unique &&other) noexcept
    {
        unique(std::move(other)).swap(*this);
        return *this;
    }
    ~unique()
    {
        if (handle_) {
            [[maybe_unused]] int result = Give(handle_);
            assert((result == 0 || result == -ESTALE) && "see the errors of the C call");
        }
    }
    void swap(unique &other) noexcept
    {
        std::swap(handle_, other.handle_);
    }
    Handle *get() const noexcept
    {
        return handle_;
    }
    Handle *release() noexcept
    {
        return std::exchange(handle_, nullptr);
    }
    explicit operator bool() const noexcept
    {
        return handle_ != nullptr;
    }

  private:
    Handle *handle_ = nullptr;
};

/* A handle that can be copied, too. */
template <class Handle, int (*Take)(Handle *), int (*Give)(Handle *)>
class shared : public unique<Handle, Give>
{
  public:
    using unique<Handle, Give>::unique;
    shared(shared &&) noexcept = default;
    shared &operator=(shared &&) noexcept = default;
    shared(const shared &other) : unique<Handle, Give>(other.get())
    {
        int result = other ? Take(other.get()) : 0;
        if (result < 0) {
            this->release();
            check(result, "take a reference");
        }
    }
    shared &operator=(const shared &other)
    {
        shared(other).swap(*this);
        return *this;
    }
};

} // namespace detail

/* -------------------------------------------------------------------------------------- events */

struct event : exitbus_event {
    event() noexcept : exitbus_event{}
    {
    }
    event(const exitbus_event &other) noexcept : exitbus_event(other)
    {
    }

    bool is_exit() const noexcept
    {
        return kind == EXITBUS_EVENT_PID || kind == EXITBUS_EVENT_EXEC;
    }
    std::string_view container() const noexcept
    {
        return container_id;
    }
    std::string_view exec() const noexcept
    {
        return exec_id;
    }
    /* Start time, inode and name, where the reaper was asked for them (EXITBUS_REAPER_DETAILS). */
    std::optional<struct exitbus_event_details> details() const noexcept
    {
        struct exitbus_event_details found;
        if (exitbus_event_details(this, &found) < 0)
            return std::nullopt;
        return found;
    }
};

/* --------------------------------------------------------------------------------------- topics */

/* The ids are copied by a subscribe, and must be there until then. */
using topic = exitbus_topic;

inline topic all() noexcept
{
    return exitbus_topic_all();
}
inline topic any_pid() noexcept
{
    return exitbus_topic_any_pid();
}
inline topic pid(pid_t pid) noexcept
{
    return exitbus_topic_pid(pid);
}
inline topic any_exec() noexcept
{
    return exitbus_topic_any_exec();
}
inline topic container(const char *id) noexcept
{
    return exitbus_topic_container(id);
}
inline topic exec_of(const char *container, const char *exec) noexcept
{
    return exitbus_topic_exec(container, exec);
}

/* ------------------------------------------------------------------------------------------ bus */

class bus
{
  public:
    bus() : bus(nullptr)
    {
    }
    explicit bus(const exitbus_options &options) : bus(&options)
    {
    }

    /* The process-wide bus, which is never destroyed. */
    static bus process_wide()
    {
        struct exitbus *handle = exitbus_default();
        check(handle ? 0 : -errno, "exitbus_default");
        bus found(adopt{});
        found.shared_ = handle;
        return found;
    }

    std::uint64_t publish(const exitbus_event &event) const
    {
        std::uint64_t seq;
        check(exitbus_publish(get(), &event, &seq), "exitbus_publish");
        return seq;
    }
    void publish_pid(pid_t pid, int exit_code) const
    {
        check(exitbus_publish_pid(get(), pid, exit_code), "exitbus_publish_pid");
    }
    void publish_exec(const std::string &container, const std::string &exec, int exit_code) const
    {
        check(exitbus_publish_exec(get(), container.c_str(), exec.c_str(), exit_code),
              "exitbus_publish_exec");
    }
    void publish_wait(pid_t pid, int status, const rusage *usage = nullptr) const
    {
        check(exitbus_publish_wait(get(), pid, status, usage), "exitbus_publish_wait");
    }
    /* 1 to EXITBUS_BATCH_MAX events, all or none. Returns the seq of the first. */
    std::uint64_t publish(const exitbus_event *events, std::size_t count) const
    {
        std::uint64_t seq;
        check(exitbus_publish_batch(get(), events, count, &seq), "exitbus_publish_batch");
        return seq;
    }
    struct exitbus_stats stats() const
    {
        struct exitbus_stats stats;
        check(exitbus_stats(get(), &stats), "exitbus_stats");
        return stats;
    }

    struct exitbus *get() const noexcept
    {
        return shared_ ? shared_ : own_.get();
    }

  private:
    struct adopt {
    };
    explicit bus(adopt) noexcept
    {
    }
    explicit bus(const exitbus_options *options)
    {
        struct exitbus *handle;
        check(exitbus_create(&handle, options), "exitbus_create");
        own_ = decltype(own_)(handle);
    }
    detail::unique<struct exitbus, exitbus_destroy> own_;
    struct exitbus *shared_ = nullptr;
};

/* --------------------------------------------------------------------------------- subscription */

namespace detail
{

/* What receives, by the handle that Self::get() gives. */
template <class Self> class receives
{
  public:
    /* The next event; nothing: the subscription is closed, and will have none. */
    std::optional<event> receive()
    {
        return take(for_ever, ESHUTDOWN, ESHUTDOWN);
    }

    /* The next event, in time. Throws if the subscription is closed. */
    template <class Rep, class Period>
    std::optional<event> receive(const std::chrono::duration<Rep, Period> &timeout)
    {
        return take(nanoseconds(timeout), ETIMEDOUT, EAGAIN);
    }

    /* What is there, without a wait. Throws if the subscription is closed. */
    std::optional<event> try_receive()
    {
        return take(0, EAGAIN, EAGAIN);
    }

    /* Append up to `capacity` events that are there to `events`. Returns how many. */
    std::size_t try_receive(std::vector<event> &events, std::size_t capacity)
    {
        exitbus_event found[EXITBUS_BATCH_MAX];
        if (capacity > EXITBUS_BATCH_MAX)
            capacity = EXITBUS_BATCH_MAX;
        ssize_t count = exitbus_receive_batch(handle(), found, capacity, 0);
        if (count == -EAGAIN)
            return 0;
        check(count, "exitbus_receive_batch");
        events.insert(events.end(), found, found + count);
        return static_cast<std::size_t>(count);
    }

    /* For event loops: see exitbus_subscription_fd(). To end, first take it out of the loop. */
    int fd()
    {
        return check(exitbus_subscription_fd(handle()), "exitbus_subscription_fd");
    }
    std::size_t pending() const
    {
        ssize_t pending = exitbus_subscription_pending(handle());
        return static_cast<std::size_t>(check(pending, "exitbus_subscription_pending"));
    }

    /* for (const event &event : subscription) ends when the subscription is closed. */
    class iterator
    {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = event;
        using difference_type = std::ptrdiff_t;
        using pointer = const event *;
        using reference = const event &;

        iterator() noexcept = default;
        explicit iterator(receives *from) : from_(from)
        {
            ++*this;
        }
        reference operator*() const noexcept
        {
            return *event_;
        }
        pointer operator->() const noexcept
        {
            return &*event_;
        }
        iterator &operator++()
        {
            event_ = from_->receive();
            return *this;
        }
        void operator++(int)
        {
            ++*this;
        }
        friend bool operator==(const iterator &a, const iterator &b) noexcept
        {
            return a.event_.has_value() == b.event_.has_value();
        }
        friend bool operator!=(const iterator &a, const iterator &b) noexcept
        {
            return !(a == b);
        }

      private:
        receives *from_ = nullptr;
        std::optional<event> event_;
    };
    iterator begin()
    {
        return iterator(this);
    }
    iterator end() noexcept
    {
        return {};
    }

  private:
    exitbus_subscription *handle() const noexcept
    {
        return static_cast<const Self *>(this)->get();
    }
    std::optional<event> take(std::int64_t timeout_ns, int none, int also_none)
    {
        event found;
        int result = exitbus_receive(handle(), &found, timeout_ns);
        if (result == -none || result == -also_none)
            return std::nullopt;
        check(result, "exitbus_receive");
        return found;
    }
};

} // namespace detail

/* Closed when it is destroyed, on whatever thread. Use it on one thread at a time: see receiver. */
class subscription : public detail::receives<subscription>
{
  public:
    /* `flags`: EXITBUS_SUBSCRIBE_…. */
    subscription(const bus &bus, const topic &topic, std::uint32_t flags = 0)
    {
        exitbus_subscription *handle;
        check(exitbus_subscribe(bus.get(), topic, flags, &handle), "exitbus_subscribe");
        handle_ = decltype(handle_)(handle);
    }
    /* One that exitbus_spawn() has made. */
    explicit subscription(exitbus_subscription *handle) noexcept : handle_(handle)
    {
    }

    /* Close it now: no receive takes an event from here on, and those that wait end. */
    void unsubscribe()
    {
        handle_ = decltype(handle_)();
    }

    exitbus_subscription *get() const noexcept
    {
        return handle_.get();
    }

  private:
    detail::unique<exitbus_subscription, exitbus_unsubscribe> handle_;
};

/*
 * One more reference to a subscription, for another thread that receives: when the subscription is
 * closed, a loop over this ends. Each event goes to one thread.
 */
class receiver : public detail::receives<receiver>
{
  public:
    explicit receiver(const subscription &from) : handle_(from.get())
    {
        int result = exitbus_subscription_ref(from.get());
        if (result < 0)
            handle_.release();
        check(result, "exitbus_subscription_ref");
    }
    exitbus_subscription *get() const noexcept
    {
        return handle_.get();
    }

  private:
    detail::shared<exitbus_subscription, exitbus_subscription_ref, exitbus_subscription_unref>
        handle_;
};

/* --------------------------------------------------------------------------------------- reaper */

class reaper
{
  public:
    explicit reaper(const bus &bus, exitbus_reaper_mode mode = EXITBUS_REAPER_ALL,
                    std::uint32_t flags = 0)
        : reaper(bus, options_of(mode, flags))
    {
    }
    reaper(const bus &bus, const exitbus_reaper_options &options)
    {
        exitbus_reaper *handle;
        check(exitbus_reaper_start(bus.get(), &options, &handle), "exitbus_reaper_start");
        handle_ = decltype(handle_)(handle);
    }
    void watch(pid_t pid)
    {
        check(exitbus_reaper_watch(get(), pid), "exitbus_reaper_watch");
    }
    int fd()
    {
        return check(exitbus_reaper_fd(get()), "exitbus_reaper_fd");
    }
    /* Returns how many exits were collected. */
    int poll()
    {
        return check(exitbus_reaper_poll(get()), "exitbus_reaper_poll");
    }
    /* The same as the destructor, with an exception if it fails. */
    void stop()
    {
        check(exitbus_reaper_stop(handle_.release()), "exitbus_reaper_stop");
    }

    exitbus_reaper *get() const noexcept
    {
        return handle_.get();
    }

  private:
    static exitbus_reaper_options options_of(exitbus_reaper_mode mode, std::uint32_t flags)
    {
        exitbus_reaper_options options{};
        options.mode = mode;
        options.flags = flags;
        return options;
    }
    detail::unique<exitbus_reaper, exitbus_reaper_stop> handle_;
};

/* --------------------------------------------------------------- what stays: process, group, exec
 */

namespace detail
{

/* Waits for an answer that stays. */
template <class Handle, int (*Take)(Handle *), int (*Give)(Handle *),
          int (*Wait)(Handle *, exitbus_event *, std::int64_t), int (*Fd)(Handle *)>
class lasting
{
  public:
    explicit lasting(Handle *handle) noexcept : handle_(handle)
    {
    }

    /* Until it is there. Throws if it can't come any more. */
    event wait() const
    {
        event found;
        check(Wait(get(), &found, for_ever), "wait");
        return found;
    }
    template <class Rep, class Period>
    std::optional<event> wait(const std::chrono::duration<Rep, Period> &timeout) const
    {
        event found;
        int result = Wait(get(), &found, nanoseconds(timeout));
        if (result == -EAGAIN || result == -ETIMEDOUT)
            return std::nullopt;
        check(result, "wait");
        return found;
    }
    std::optional<event> try_wait() const
    {
        return wait(std::chrono::nanoseconds::zero());
    }
    /* Readable once it is there, for good. The library's own: don't close it. */
    int fd() const
    {
        return check(Fd(get()), "fd");
    }

    Handle *get() const noexcept
    {
        return handle_.get();
    }

  private:
    shared<Handle, Take, Give> handle_;
};

} // namespace detail

class process : public detail::lasting<exitbus_process, exitbus_process_ref, exitbus_process_unref,
                                       exitbus_process_wait, exitbus_process_fd>
{
  public:
    using lasting::lasting;

    static process spawn(const bus &bus, const exitbus_spawn_options &options)
    {
        exitbus_process *handle;
        check(exitbus_process_spawn(bus.get(), &options, &handle), "exitbus_process_spawn");
        return process(handle);
    }
    /* argv[0] is looked up along PATH. `flags`: EXITBUS_SPAWN_…. */
    static process run(const bus &bus, const std::vector<std::string> &argv,
                       std::uint32_t flags = EXITBUS_SPAWN_SEARCH_PATH)
    {
        std::vector<char *> pointers;
        for (const std::string &argument : argv)
            pointers.push_back(const_cast<char *>(argument.c_str()));
        pointers.push_back(nullptr);
        exitbus_spawn_report report{};
        exitbus_spawn_options options{};
        options.argv = pointers.data();
        options.flags = flags;
        options.report = &report;
        exitbus_process *handle;
        int result = exitbus_process_spawn(bus.get(), &options, &handle);
        if (result < 0)
            throw std::system_error(-result, error_category(), exitbus_spawn_strerror(&report));
        return process(handle);
    }
    static process adopt(const bus &bus, pid_t pid)
    {
        exitbus_process *handle;
        check(exitbus_process_adopt(bus.get(), pid, 0, &handle), "exitbus_process_adopt");
        return process(handle);
    }
    static process adopt_pidfd(const bus &bus, int pidfd)
    {
        exitbus_process *handle;
        check(exitbus_process_adopt_pidfd(bus.get(), pidfd, 0, &handle),
              "exitbus_process_adopt_pidfd");
        return process(handle);
    }

    /* Returns false if the process has ended. Never reaches another one. */
    bool signal(int number, std::uint32_t flags = 0) const
    {
        int result = exitbus_process_signal(get(), number, flags);
        if (result == -ESRCH)
            return false;
        check(result, "exitbus_process_signal");
        return true;
    }
    pid_t pid() const
    {
        return check(exitbus_process_pid(get()), "exitbus_process_pid");
    }
    /* A descriptor of the caller's own. */
    int pidfd() const
    {
        return check(exitbus_process_pidfd(get()), "exitbus_process_pidfd");
    }
    /* Since the machine was booted. */
    std::chrono::nanoseconds start_time() const
    {
        std::uint64_t ns;
        check(exitbus_process_start_time(get(), &ns), "exitbus_process_start_time");
        return std::chrono::nanoseconds(static_cast<std::int64_t>(ns));
    }
};

class group : public detail::lasting<exitbus_group, exitbus_group_ref, exitbus_group_unref,
                                     exitbus_group_wait, exitbus_group_fd>
{
  public:
    using lasting::lasting;

    static group of_set(const bus &bus, const std::string &name)
    {
        exitbus_group_options options{};
        options.kind = EXITBUS_GROUP_SET;
        return make(bus, name, options);
    }
    /* The process group that `leader` leads. */
    static group of_processes(const bus &bus, const std::string &name, const process &leader)
    {
        exitbus_group_options options{};
        options.kind = EXITBUS_GROUP_PROCESSES;
        options.leader = leader.get();
        return make(bus, name, options);
    }
    static group of_cgroup(const bus &bus, const std::string &name, int cgroup_fd)
    {
        exitbus_group_options options{};
        options.kind = EXITBUS_GROUP_CGROUP;
        options.cgroup_fd = cgroup_fd;
        return make(bus, name, options);
    }

    void add(const process &member) const
    {
        check(exitbus_group_add(get(), member.get()), "exitbus_group_add");
    }
    /* `signal`, and SIGKILL after the grace. */
    template <class Rep, class Period>
    void end(int signal, const std::chrono::duration<Rep, Period> &grace) const
    {
        check(exitbus_group_end(get(), signal, detail::nanoseconds(grace)), "exitbus_group_end");
    }

  private:
    static group make(const bus &bus, const std::string &name, exitbus_group_options &options)
    {
        exitbus_group *handle;
        options.name = name.c_str();
        check(exitbus_group_create(bus.get(), &options, &handle), "exitbus_group_create");
        return group(handle);
    }
};

class exec : public detail::lasting<exitbus_exec, exitbus_exec_ref, exitbus_exec_unref,
                                    exitbus_exec_wait, exitbus_exec_fd>
{
  public:
    using lasting::lasting;

    void started(pid_t pid, int pidfd = -1) const
    {
        check(exitbus_exec_started(get(), pid, pidfd), "exitbus_exec_started");
    }
    void restarting() const
    {
        check(exitbus_exec_restarting(get()), "exitbus_exec_restarting");
    }
    void cancel() const
    {
        check(exitbus_exec_cancel(get()), "exitbus_exec_cancel");
    }
    /* Returns false if it has no process now. */
    bool signal(int number) const
    {
        int result = exitbus_exec_signal(get(), number);
        if (result == -ESRCH)
            return false;
        check(result, "exitbus_exec_signal");
        return true;
    }
};

class task
{
  public:
    task(const bus &bus, const std::string &container_id,
         const exitbus_task_options *options = nullptr)
    {
        exitbus_task *handle;
        check(exitbus_task_create(bus.get(), container_id.c_str(), options, &handle),
              "exitbus_task_create");
        handle_ = decltype(handle_)(handle);
    }
    /* Nothing: the leader has died, and no exec begins any more. */
    std::optional<exec> reserve(const std::string &exec_id = "") const
    {
        exitbus_exec *made;
        int result = exitbus_exec_reserve(get(), exec_id.c_str(), &made);
        if (result == -EOWNERDEAD)
            return std::nullopt;
        check(result, "exitbus_exec_reserve");
        return exec(made);
    }
    /* Returns false if it has ended already. */
    template <class Rep, class Period>
    bool end(int signal, const std::chrono::duration<Rep, Period> &grace) const
    {
        int result = exitbus_task_end(get(), signal, detail::nanoseconds(grace));
        if (result == -ESRCH)
            return false;
        check(result, "exitbus_task_end");
        return true;
    }

    exitbus_task *get() const noexcept
    {
        return handle_.get();
    }

  private:
    detail::shared<exitbus_task, exitbus_task_ref, exitbus_task_unref> handle_;
};

} // namespace exit_bus

#endif
